"""A window that shows pictures, by pygame."""

from __future__ import annotations

import numpy as np

from ..errors import ConfigError


class Window:
    """One pygame window; it opens with the first picture."""

    def __init__(self, title: str, pictures_per_second: int):
        """Prepare the window.

        Raises:
            ConfigError: pygame is not installed.
        """
        try:
            import pygame
        except ImportError as error:
            raise ConfigError("render mode 'human' needs pygame; install it with: pip install 'xpeng-world[human]'") from error
        self._pygame = pygame
        self._title, self._rate = title, pictures_per_second
        self._screen: pygame.Surface | None = None

    def show(self, picture: np.ndarray) -> None:
        """Show a picture [H, W, 3] uint8 and wait for its time."""
        pygame = self._pygame
        if self._screen is None:
            pygame.display.init()
            self._screen = pygame.display.set_mode((picture.shape[1], picture.shape[0]))
            pygame.display.set_caption(self._title)
            self._clock = pygame.time.Clock()
        self._screen.blit(pygame.surfarray.make_surface(picture.swapaxes(0, 1)), (0, 0))
        pygame.event.pump()
        pygame.display.flip()
        self._clock.tick(self._rate)

    def close(self) -> None:
        """Close the window; it opens again with the next picture."""
        if self._screen is not None:
            self._pygame.display.quit()
            self._screen = None
