"""How every program says what a store holds, alike on a terminal and on a page: as JSON, in words, as a tree."""
