"""What tests and measurements share. The product imports nothing from here."""
