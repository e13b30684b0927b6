"""The program that steps through a trace in a terminal, on Textual (the extra `step`).

keys       one table of what each key does: bindings, footer and help come from it
listing    a list of lines with a cursor, whose lines lead somewhere
panels     what of a step stands in which list
screens    the help, and a choice among a few things
stepper    the program
"""
