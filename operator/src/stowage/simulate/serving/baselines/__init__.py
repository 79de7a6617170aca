"""Published autoscalers at their documented defaults, the best fixed size, and perfect foresight."""
