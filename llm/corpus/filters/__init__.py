"""Quality rules in SQL over natively measured text, line cleaning, and masks of personal data."""
