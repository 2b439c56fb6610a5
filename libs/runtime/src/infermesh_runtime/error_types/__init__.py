"""How errors are called in each dialect of the REST API: tables for the router and for Envoy's Lua filter"""
