"""Public datasets: their official files -> manifest rows (``data.manifest_row``)."""
