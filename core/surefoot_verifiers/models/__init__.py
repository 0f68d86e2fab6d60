"""What asks a model for a verdict; loaded when a verifier of models is made."""

__all__: list[str] = []
