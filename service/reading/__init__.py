"""How a photograph larger than the policy's world is read: views at several scales, combined number by number."""
