"""A corpus as one HTML page and a contact sheet: to see what training will see."""
