"""Documents, queries and judgements, tokenised once, and their ranking."""
