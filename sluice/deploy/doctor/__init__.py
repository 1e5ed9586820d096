"""What is wrong with a deployed stage, and what to do about it. Nothing here changes anything."""
