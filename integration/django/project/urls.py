from django.urls import path
from guestbook import views

urlpatterns = [
    path("", views.entries),
    path("write", views.write),
    path("visits", views.visits),
    path("transfer", views.transfer),
]
