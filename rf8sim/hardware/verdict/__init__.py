"""The verdict on what a design answered, and its explanation."""
