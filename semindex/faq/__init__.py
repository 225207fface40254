"""A FAQ: questions with answers, found by keyword and vector, answered or refused."""
