"""What endpoints report of themselves, what that means, and what a report does not contain yet."""
