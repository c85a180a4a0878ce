"""Books in XML. Each function but ``titles`` leaks in its own way."""

from bookshelf._native import ffi, lib

_watchers = set()
_OPTIONS = 32 | 64  # no errors, no warnings on stderr


def load(text):
    """Parse a document, and forget to free it."""
    data = text.encode()
    doc = lib.xmlReadMemory(data, len(data), b"books.xml", ffi.NULL, _OPTIONS)
    if doc == ffi.NULL:
        raise ValueError("no XML")
    return doc


def close(doc):
    """Free a document."""
    lib.xmlFreeDoc(doc)


def titles(doc):
    """Return the text of all books; nothing leaks."""
    content = lib.xmlNodeGetContent(lib.xmlDocGetRootElement(doc))
    try:
        return ffi.string(content).decode().split()
    finally:
        lib.xmlFree(content)


def first_title(doc):
    """Leak the text, if there is a title."""
    content = lib.xmlNodeGetContent(lib.xmlDocGetRootElement(doc))
    found = ffi.string(content).decode().split()
    if found:
        return found[0]
    lib.xmlFree(content)
    return None


def count(doc, path):
    """Leak the result of XPath, and free its context."""
    context = lib.xmlXPathNewContext(doc)
    found = lib.xmlXPathEvalExpression(path.encode(), context)
    lib.xmlXPathFreeContext(context)
    return found != ffi.NULL


def is_path(doc, path):
    """Leak the context when the path is wrong."""
    context = lib.xmlXPathNewContext(doc)
    found = lib.xmlXPathEvalExpression(path.encode(), context)
    if found == ffi.NULL:
        return False
    lib.xmlXPathFreeObject(found)
    lib.xmlXPathFreeContext(context)
    return True


def copy_of(doc):
    """Copy a document with a destructor, then disown it."""
    copy = ffi.gc(lib.xmlCopyDoc(doc, 1), lib.xmlFreeDoc)
    ffi.gc(copy, None)
    return copy


def watch(callback):
    """Keep a handle for C for ever."""
    handle = ffi.new_handle(callback)
    _watchers.add(handle)
