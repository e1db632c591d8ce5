"""The handlers of user events, a file a door; `reading` has what is stored of them."""
