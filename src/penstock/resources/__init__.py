"""Resources: declarations of what can be imported and exported, and what is derived from them."""
