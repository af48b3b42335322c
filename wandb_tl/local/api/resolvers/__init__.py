"""GraphQL resolvers: one small function per field, from a row to a row or a plain value.

Each module's RESOLVERS maps type -> field -> function(row, info, **arguments); info.context is a Context.
"""
