"""What pages are put together from. Every part is a function that draws; none knows a page."""
