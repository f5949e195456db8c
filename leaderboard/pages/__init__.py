"""What is common to HTML pages and figures: templates, escaping, drawing."""
