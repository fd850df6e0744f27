#!/bin/sh
# Tests greet.sh and leaves a report in the directory given.
set -eu
said=$(NAME=whistlestop ./greet.sh)
printf '\033[1m%s\033[0m\n' "$said"
[ "$said" = "Hello, whistlestop!" ]
[ "$(NAME='' ./greet.sh)" = "Hello, world!" ]
echo "2 tests passed" | tee "$1/summary"
