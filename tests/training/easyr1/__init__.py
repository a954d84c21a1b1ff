"""EasyR1 as a second engine."""
