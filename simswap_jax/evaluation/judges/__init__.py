"""The networks that evaluate results: recognisers, head pose, landmarks, features."""
