"""Handles: the objects of any cffi library, by type, owner and destructor."""
