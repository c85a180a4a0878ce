"""libxml2 through cffi, as a package of others declares it."""

import cffi

ffi = cffi.FFI()
ffi.cdef("""
    typedef unsigned char xmlChar;
    struct _xmlDoc; struct _xmlNode; struct _xmlXPathContext;

    struct _xmlDoc *xmlReadMemory(
        const char *text, int size, const char *url, const char *encoding,
        int options);
    struct _xmlDoc *xmlCopyDoc(struct _xmlDoc *, int recursive);
    void xmlFreeDoc(struct _xmlDoc *);
    struct _xmlNode *xmlDocGetRootElement(const struct _xmlDoc *);
    xmlChar *xmlNodeGetContent(const struct _xmlNode *);
    struct _xmlXPathContext *xmlXPathNewContext(struct _xmlDoc *);
    void xmlXPathFreeContext(struct _xmlXPathContext *);
    struct _xmlXPathObject *xmlXPathEvalExpression(
        const xmlChar *, struct _xmlXPathContext *);
    void xmlXPathFreeObject(struct _xmlXPathObject *);
    extern void (*xmlFree)(void *);
""")
lib = ffi.dlopen("libxml2.so.2")
