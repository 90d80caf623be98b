"""The step, the loop around it, and the state that they keep."""
