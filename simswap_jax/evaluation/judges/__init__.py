"""The networks that evaluate results: face recognition, head pose, landmarks, features."""
