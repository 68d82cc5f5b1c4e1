"""The surface language: text and YAML in, one syntax tree, and back out again."""
