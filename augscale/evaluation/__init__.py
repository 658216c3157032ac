"""Downstream evaluation of a pre-trained encoder on labelled images."""
