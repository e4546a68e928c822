"""What is done with registered versions: find, promote, walk back, reproduce, clean up."""
