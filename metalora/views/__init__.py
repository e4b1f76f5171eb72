"""What each tab of the app and its endpoints compute: no layout and no events."""
