"""The command line: one thin file a command. Heavy imports wait until a command needs them."""

from loralaw.cli.app import main as main
