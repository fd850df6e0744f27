#!/bin/sh
echo "Hello, ${NAME:-world}!"
