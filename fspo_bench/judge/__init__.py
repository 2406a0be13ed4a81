"""Judges: which of two answers would this user prefer?"""
