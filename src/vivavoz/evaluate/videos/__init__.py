"""The field's metrics over talking videos, and the paper's protocols."""
