"""Operations with one numeric result on every platform."""
