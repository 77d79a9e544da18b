"""What `livehouse load` can do. Every scenario is a function from options to a `Report`."""
