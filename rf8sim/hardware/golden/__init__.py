"""What a design must answer: exact results of operations, rounded."""
