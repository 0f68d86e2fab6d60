"""The commands of this package, added through the hook that strangers use."""
