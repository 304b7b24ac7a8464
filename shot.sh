# name width height dark
f=$1; w=$2; h=$3; o=$4; extra=$5
chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --force-device-scale-factor=1 --window-size=$w,$h $extra --screenshot=$o file://$f >/dev/null 2>&1
