"""The client as a package of its own: `tidegate-client`, imported as `tidegate_client`."""
