"""Operations on codes, accumulators and matrix products."""
