"""What Microsoft's tests import of a package that is not published: as little of it as they need for an account key."""
