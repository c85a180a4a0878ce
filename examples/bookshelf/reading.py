"""Uses ``bookshelf``, which leaks six objects of libxml2 and of cffi.

``ffi-leak-tracker run --handles bookshelf._native:libxml2.toml reading.py``
"""

import bookshelf

BOOKS = "<books><book>Emma</book> <book>Persuasion</book></books>"


def main():
    doc = bookshelf.load(BOOKS)
    print(bookshelf.titles(doc))
    for _ in range(2):
        bookshelf.load(BOOKS)  # 1: two documents
    print(bookshelf.first_title(doc))  # 2: a text
    bookshelf.count(doc, "//book")  # 3: a result of XPath
    bookshelf.is_path(doc, "//[")  # 4: a context of XPath
    bookshelf.is_path(doc, "//book")
    bookshelf.copy_of(doc)  # 5: a copy without its destructor
    bookshelf.watch(print)  # 6: a handle that a set keeps
    bookshelf.close(doc)


if __name__ == "__main__":
    main()
