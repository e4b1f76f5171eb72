"""The 15 corruptions of Hendrycks and Dietterich (1903.12261) in five severities, rendered anew."""
