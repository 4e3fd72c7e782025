"""The designs that come with the package, as YAML."""
