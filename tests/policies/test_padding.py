import torch
from xpeng_world.road import Route


def test_routes_of_different_lengths_repeat_their_last_point():
    short = Route(torch.tensor([[[5.0, 5.0], [7.0, 5.0]]]), torch.tensor([2.0]), torch.tensor([[0]]))
    long = Route(torch.arange(8.0).view(1, 4, 2), torch.tensor([6.0]), torch.tensor([[0, 1]]))
    both = Route.cat([short, long])
    assert both.points[0].tolist() == [[5, 5], [7, 5], [7, 5], [7, 5]]
    assert both.lanes.tolist() == [[0, -1], [0, 1]]
