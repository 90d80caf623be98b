"""Whole experiments: several trainings, evaluated alike, and what is made of the results."""
