"""Product events: accepted into a durable log, applied to the products in batches, set aside when they cannot be."""
