"""An API and a page to talk to a trained model."""
