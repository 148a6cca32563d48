"""The pages of commands other than `report`."""
