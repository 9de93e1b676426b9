"""Conformance: is an implementation right, case by case, against exact values?"""
