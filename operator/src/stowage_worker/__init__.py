"""What runs inside a training pod: supervisor and coordinator, with nothing but the standard library."""
