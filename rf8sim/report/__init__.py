"""Reports: sections are data, figures are drawings, and one module renders both as a page."""
